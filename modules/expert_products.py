"""Tokens in the order of their experts, and linear maps of which each row uses its expert's: three ways, one
result.

    Looped    on CPUs: one product for each expert, written into one buffer; the numbers of rows are read on
              the host
    Grouped   on GPUs in bfloat16: torch's grouped product, which reads them on the device
    Tiled     for other precisions on GPUs, and under torch.compile: tiles of one size, each with its
              expert's weights; their shapes depend on nothing but the number of tokens
No way multiplies a token with more than one expert; on a GPU none waits for the device.
T tokens, E experts, I inputs, O outputs, R rows; N tiles of M rows.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

TILES = 4  # for each expert, where tokens are shared out evenly: at most a quarter more rows than tokens


def way_for(expert_T, real_T, counts_E, *, dtype, widths):
    """The way for a batch on its device: has take(), linear() and put().  What put() makes of padding is
    undefined or zero.

    expert_T: int64, each token's.  real_T: bool, True for tokens that count; None: all do.  counts_E: tokens
    that count.
    dtype: of the products.  widths: I and O of all of them.
    """
    if expert_T.device.type == "cpu" and not torch.compiler.is_compiling():
        return Looped(expert_T, real_T, counts_E)
    aligned = all(width * dtype.itemsize % 16 == 0 for width in widths)
    if dtype == torch.bfloat16 and aligned and not torch.compiler.is_compiling():
        return Grouped(expert_T, len(counts_E))
    return Tiled(expert_T, len(counts_E))


class _Moved(torch.autograd.Function):
    """Rows of a matrix in another order, each once: so the gradient is moved back, not added up."""

    @staticmethod
    def forward(ctx, matrix_TI, order_T, back_T):
        ctx.save_for_backward(back_T)
        return matrix_TI.index_select(0, order_T)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_TI):
        (back_T,) = ctx.saved_tensors
        return gradient_TI.index_select(0, back_T), None, None


class _ScaledBack(torch.autograd.Function):
    """Rows back at their tokens' places, each times a factor: one pass over them in either direction where
    autograd takes two."""

    @staticmethod
    def forward(ctx, rows_TO, factor_T1, order_T, back_T):
        ctx.save_for_backward(rows_TO, factor_T1, order_T, back_T)
        return rows_TO.index_select(0, back_T).mul_(factor_T1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_TO):
        rows_TO, factor_T1, order_T, back_T = ctx.saved_tensors
        moved_TO = gradient_TO.index_select(0, order_T)
        of_factor_T1 = (moved_TO * rows_TO).sum(1, keepdim=True)[back_T]
        return moved_TO.mul_(factor_T1.index_select(0, order_T)), of_factor_T1, None, None


class _Sorted:
    """Tokens in another order.  order_T: token of each row.  back_T: row of each token."""

    def __init__(self, order_T):
        self.order_T = order_T
        self.back_T = torch.empty_like(order_T).scatter_(
            0, order_T, torch.arange(len(order_T), device=order_T.device)
        )

    def take(self, matrix_TI):
        """[T, I]: tokens sorted by expert."""
        return _Moved.apply(matrix_TI, self.order_T, self.back_T)

    def put(self, rows_TO, factor_T1=None):
        """[T, O]: rows back at their tokens' places, times a factor of each token."""
        if factor_T1 is None:
            return _Moved.apply(rows_TO, self.back_T, self.order_T)
        return _ScaledBack.apply(rows_TO, factor_T1, self.order_T, self.back_T)


class Looped(_Sorted):
    """Padding comes last, and no product touches it: its rows are zero."""

    def __init__(self, expert_T, real_T, counts_E):
        number = len(counts_E)
        if real_T is not None:
            expert_T, number = expert_T.masked_fill(~real_T, number), number + 1
        super().__init__((expert_T == torch.arange(number)[:, None]).nonzero()[:, 1])  # faster than to sort
        self.counts = counts_E.tolist()

    def linear(self, rows_TI, weight_EOI, bias_EO):
        """[T, O]: each row times its expert's weight, plus its bias, where there is one."""
        return _LoopedLinear.apply(rows_TI, weight_EOI, bias_EO, self.counts)


class _LoopedLinear(torch.autograd.Function):
    """Every product writes its own part of one buffer, in both directions: nothing is stacked or added up
    afterwards."""

    @staticmethod
    def forward(ctx, rows_TI, weight_EOI, bias_EO, counts):
        ctx.save_for_backward(rows_TI, weight_EOI)
        ctx.counts = counts
        made_TO = rows_TI.new_empty(len(rows_TI), weight_EOI.shape[1])
        start = 0
        for expert, count in enumerate(counts):
            part, start = slice(start, start + count), start + count
            if bias_EO is None:
                torch.mm(rows_TI[part], weight_EOI[expert].t(), out=made_TO[part])
            else:
                torch.addmm(bias_EO[expert], rows_TI[part], weight_EOI[expert].t(), out=made_TO[part])
        made_TO[start:] = 0
        return made_TO

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_TO):
        (rows_TI, weight_EOI), counts = ctx.saved_tensors, ctx.counts
        gradient_TO = gradient_TO.contiguous()
        to_rows, to_weight, to_bias, _ = ctx.needs_input_grad
        rows_gradient_TI = torch.empty_like(rows_TI) if to_rows else None
        weight_gradient_EOI = torch.empty_like(weight_EOI) if to_weight else None
        bias_gradient_EO = weight_EOI.new_empty(weight_EOI.shape[:2]) if to_bias else None
        start = 0
        for expert, count in enumerate(counts):
            part, start = slice(start, start + count), start + count
            if to_rows:
                torch.mm(gradient_TO[part], weight_EOI[expert], out=rows_gradient_TI[part])
            if to_weight:
                torch.mm(gradient_TO[part].t(), rows_TI[part], out=weight_gradient_EOI[expert])
            if to_bias:
                torch.sum(gradient_TO[part], 0, out=bias_gradient_EO[expert])
        if to_rows:
            rows_gradient_TI[start:] = 0
        return rows_gradient_TI, weight_gradient_EOI, bias_gradient_EO, None


class Grouped(_Sorted):
    """Padding goes with some expert, and is given no weight afterwards."""

    def __init__(self, expert_T, num_experts):
        sorted_T, order_T = torch.sort(expert_T, stable=True)
        super().__init__(order_T)
        self.chosen_TE = sorted_T[:, None] == torch.arange(num_experts, device=expert_T.device)
        self.ends_E = self.chosen_TE.sum(0).cumsum(0).to(torch.int32)

    def linear(self, rows_TI, weight_EOI, bias_EO):
        """[T, O]: each row times its expert's weight, plus its bias, which is picked by a product: so is its
        gradient summed."""
        with torch.autocast(rows_TI.device.type, enabled=False):
            made_TO = F.grouped_mm(rows_TI, weight_EOI.transpose(1, 2), offs=self.ends_E)
            return (
                made_TO
                if bias_EO is None
                else torch.addmm(made_TO, self.chosen_TE.to(bias_EO.dtype), bias_EO)
            )


class Tiled:
    """Each expert's tokens fill whole tiles; the rows that are left over in its last one are zero, and taken
    back by nobody."""

    def __init__(self, expert_T, num_experts):
        size = len(expert_T)
        self.rows = -(-size // (TILES * num_experts))  # M
        num_tiles = -(-size // self.rows) + num_experts  # N, whoever gets how many
        chosen_TE = (expert_T[:, None] == torch.arange(num_experts, device=expert_T.device)).long()
        ends_E = (-(-chosen_TE.sum(0) // self.rows)).cumsum(0)  # tiles up to each expert's last one
        starts_E = self.rows * torch.cat([ends_E.new_zeros(1), ends_E[:-1]])
        place_TE = chosen_TE.cumsum(0) - 1 + starts_E
        self.index_T = (place_TE * chosen_TE).sum(1)
        number_N = torch.arange(num_tiles, device=expert_T.device)
        expert_N = (number_N[:, None] >= ends_E).sum(1).clamp(max=num_experts - 1)
        self.chosen_NE = expert_N[:, None] == torch.arange(num_experts, device=expert_T.device)
        self.expert_N = expert_N

    def take(self, matrix_TI):
        """[R, I]: tokens in their experts' tiles."""
        return _placed(matrix_TI, self.index_T, len(self.expert_N) * self.rows)

    def linear(self, rows_RI, weight_EOI, bias_EO):
        """[R, O]: each tile times its expert's weight, plus its bias."""
        tiles_NMI = rows_RI.unflatten(0, (-1, self.rows))
        weight_NIO = _Picked.apply(weight_EOI, self.expert_N, self.chosen_NE).transpose(1, 2)
        if bias_EO is None:
            return torch.bmm(tiles_NMI, weight_NIO).flatten(0, 1)
        bias_NO = _Picked.apply(bias_EO, self.expert_N, self.chosen_NE)
        return torch.baddbmm(bias_NO[:, None], tiles_NMI, weight_NIO).flatten(0, 1)

    def put(self, rows_RO, factor_T1=None):
        """As _Sorted.put()."""
        made_TO = _Rows.apply(rows_RO, self.index_T)
        return made_TO if factor_T1 is None else made_TO * factor_T1


class _Rows(torch.autograd.Function):
    """Rows of a matrix, no row twice: so the gradient is copied, not added up."""

    @staticmethod
    def forward(ctx, matrix_RO, index_T):
        ctx.save_for_backward(index_T)
        ctx.size = len(matrix_RO)
        return matrix_RO.index_select(0, index_T)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_TO):
        (index_T,) = ctx.saved_tensors
        return _placed(gradient_TO, index_T, ctx.size), None


def _placed(rows_TI, index_T, size):
    """[size, I]: these rows at these places, zeros elsewhere."""
    return rows_TI.new_zeros(size, rows_TI.shape[1]).index_copy(0, index_T, rows_TI)


class _Picked(torch.autograd.Function):
    """tensor_E...[expert_N]; gradients of tiles of one expert are summed by a product, in an order that is
    always the same."""

    @staticmethod
    def forward(ctx, tensor, expert_N, chosen_NE):
        ctx.save_for_backward(chosen_NE)
        return tensor.index_select(0, expert_N)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (chosen_NE,) = ctx.saved_tensors
        summed = chosen_NE.t().to(gradient.dtype) @ gradient.flatten(1)
        return summed.unflatten(1, gradient.shape[1:]), None, None
