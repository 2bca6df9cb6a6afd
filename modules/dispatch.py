"""Tokens in the order of their experts, and linear maps of which each row uses its expert's: three ways, one result.

    Looped    on CPUs: one product for each expert, written into one buffer; the numbers of rows are read on the host
    Grouped   on GPUs in bfloat16: torch's grouped product, which reads them on the device
    Blocked   for other precisions on GPUs, and under torch.compile: blocks of one size, each with its expert's weights; their
              shapes depend on nothing but the number of tokens
No way multiplies a token with more than one expert; on a GPU none waits for the device.
T tokens, E experts, I inputs, O outputs, R rows; N blocks of M rows.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

BLOCKS = 4  # for each expert, where tokens are shared out evenly: at most a quarter more rows than tokens


def dispatch(expert_T, real_T1, counts_E, *, dtype, widths):
    """The way for a batch on its device: has take(), linear() and put().

    expert_T: int64, each token's.  real_T1: bool, True for tokens that count; None: all do.  counts_E: tokens that count.
    dtype: of the products.  widths: I and O of all of them.
    """
    if expert_T.device.type == "cpu" and not torch.compiler.is_compiling():
        return Looped(expert_T, real_T1, counts_E)
    aligned = all(width * dtype.itemsize % 16 == 0 for width in widths)
    if dtype == torch.bfloat16 and aligned and not torch.compiler.is_compiling():
        return Grouped(expert_T, len(counts_E))
    return Blocked(expert_T, len(counts_E))


class _Rows(torch.autograd.Function):
    """Rows of a matrix, no row twice: so the gradient is copied, not added up."""

    @staticmethod
    def forward(ctx, matrix_TI, index_R):
        ctx.save_for_backward(index_R)
        ctx.size = len(matrix_TI)
        return matrix_TI.index_select(0, index_R)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_RI):
        (index_R,) = ctx.saved_tensors
        return _placed(gradient_RI, index_R, ctx.size), None


def _placed(rows_RI, index_R, size):
    """[size, I]: these rows at these places, zeros elsewhere."""
    return rows_RI.new_zeros(size, rows_RI.shape[1]).index_copy(0, index_R, rows_RI)


class Looped:
    """Padding is left out: R is the number of tokens that count."""

    def __init__(self, expert_T, real_T1, counts_E):
        key_T = expert_T if real_T1 is None else expert_T.masked_fill(~real_T1[:, 0], len(counts_E))
        self.counts, self.size = counts_E.tolist(), len(expert_T)
        self.order_R = torch.argsort(key_T, stable=True)[: sum(self.counts)]

    def take(self, matrix_TI):
        """[R, I]: tokens sorted by expert."""
        return _Rows.apply(matrix_TI, self.order_R)

    def linear(self, rows_RI, weight_EOI, bias_EO):
        """[R, O]: each row times its expert's weight, plus its bias."""
        return _LoopedLinear.apply(rows_RI, weight_EOI, bias_EO, self.counts)

    def put(self, rows_RO):
        """[T, O]: rows back at their tokens' places, zeros for padding."""
        return _placed(rows_RO, self.order_R, self.size)


class _LoopedLinear(torch.autograd.Function):
    """Every product writes its own part of one buffer, in both directions: nothing is stacked or added up afterwards."""

    @staticmethod
    def forward(ctx, rows_RI, weight_EOI, bias_EO, counts):
        ctx.save_for_backward(rows_RI, weight_EOI)
        ctx.counts = counts
        made_RO = rows_RI.new_empty(len(rows_RI), weight_EOI.shape[1])
        parts = zip(rows_RI.split(counts), weight_EOI, bias_EO, made_RO.split(counts))
        for part_RI, weight_OI, bias_O, out_RO in parts:
            torch.addmm(bias_O, part_RI, weight_OI.t(), out=out_RO)
        return made_RO

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_RO):
        (rows_RI, weight_EOI), counts = ctx.saved_tensors, ctx.counts
        gradient_RO = gradient_RO.contiguous()
        to_rows, to_weight, to_bias, _ = ctx.needs_input_grad
        rows_gradient_RI = torch.empty_like(rows_RI) if to_rows else None
        weight_gradient_EOI = torch.empty_like(weight_EOI) if to_weight else None
        bias_gradient_EO = weight_EOI.new_empty(weight_EOI.shape[:2]) if to_bias else None
        start = 0
        for expert, count in enumerate(counts):
            part, start = slice(start, start + count), start + count
            if to_rows:
                torch.mm(gradient_RO[part], weight_EOI[expert], out=rows_gradient_RI[part])
            if to_weight:
                torch.mm(gradient_RO[part].t(), rows_RI[part], out=weight_gradient_EOI[expert])
            if to_bias:
                torch.sum(gradient_RO[part], 0, out=bias_gradient_EO[expert])
        return rows_gradient_RI, weight_gradient_EOI, bias_gradient_EO, None


class Grouped:
    """All tokens are rows: padding goes with some expert, and is given no weight afterwards."""

    def __init__(self, expert_T, num_experts):
        sorted_T, self.order_T = torch.sort(expert_T, stable=True)
        self.chosen_TE = sorted_T[:, None] == torch.arange(num_experts, device=expert_T.device)
        self.ends_E = self.chosen_TE.sum(0).cumsum(0).to(torch.int32)

    def take(self, matrix_TI):
        """[T, I]: tokens sorted by expert."""
        return _Rows.apply(matrix_TI, self.order_T)

    def linear(self, rows_TI, weight_EOI, bias_EO):
        """[T, O]: each row times its expert's weight, plus its bias, which is picked by a product: so is its gradient summed."""
        with torch.autocast(rows_TI.device.type, enabled=False):
            made_TO = F.grouped_mm(rows_TI, weight_EOI.transpose(1, 2), offs=self.ends_E)
            return torch.addmm(made_TO, self.chosen_TE.to(bias_EO.dtype), bias_EO)

    def put(self, rows_TO):
        """[T, O]: rows back at their tokens' places."""
        return _placed(rows_TO, self.order_T, len(rows_TO))


class Blocked:
    """Each expert's tokens fill whole blocks; the rows that are left over in its last one are zero, and taken back by nobody."""

    def __init__(self, expert_T, num_experts):
        size = len(expert_T)
        self.rows = -(-size // (BLOCKS * num_experts))  # M
        num_blocks = -(-size // self.rows) + num_experts  # N, whoever gets how many
        chosen_TE = (expert_T[:, None] == torch.arange(num_experts, device=expert_T.device)).long()
        ends_E = (-(-chosen_TE.sum(0) // self.rows)).cumsum(0)  # blocks up to each expert's last one
        starts_E = self.rows * torch.cat([ends_E.new_zeros(1), ends_E[:-1]])
        place_TE = chosen_TE.cumsum(0) - 1 + starts_E
        self.index_T = (place_TE * chosen_TE).sum(1)
        number_N = torch.arange(num_blocks, device=expert_T.device)
        expert_N = (number_N[:, None] >= ends_E).sum(1).clamp(max=num_experts - 1)
        self.chosen_NE = expert_N[:, None] == torch.arange(num_experts, device=expert_T.device)
        self.expert_N = expert_N

    def take(self, matrix_TI):
        """[R, I]: tokens in their experts' blocks."""
        return _placed(matrix_TI, self.index_T, len(self.expert_N) * self.rows)

    def linear(self, rows_RI, weight_EOI, bias_EO):
        """[R, O]: each block times its expert's weight, plus its bias."""
        blocks_NMI = rows_RI.unflatten(0, (-1, self.rows))
        weight_NOI, bias_NO = _Picked.apply(weight_EOI, self.expert_N, self.chosen_NE), _Picked.apply(
            bias_EO, self.expert_N, self.chosen_NE
        )  # fmt: skip
        return torch.baddbmm(bias_NO[:, None], blocks_NMI, weight_NOI.transpose(1, 2)).flatten(0, 1)

    def put(self, rows_RO):
        """[T, O]: rows back at their tokens' places."""
        return _Rows.apply(rows_RO, self.index_T)


class _Picked(torch.autograd.Function):
    """tensor_E...[expert_N]; gradients of blocks of one expert are summed by a product, in an order that is always the same."""

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
