"""The mathematics of the methods, in plain torch: no model, no data, no flags.

losses: task losses, soft labels and their temperature, hidden states, patient distillation; which
layers are matched.
objectives: which terms each conventional distillation objective adds up.
sliceable_linear: linear layers that compute with the first kept units, and what is left of emptied ones.
importance: scores of attention heads and neurons from mask gradients, and their global ranking.
knowledge: StarK's scores, which count the student in.
tradeoff: MiniDisc's candidates and the choice among them.
relation_losses: MiniLMv2's loss and, in the same pass, its gradient.
experts: stacked linear maps of which every token uses one, and the router that chooses.
expert_products: their products, three ways.
plain_experts: the same without any of these ways, for models that are exported.
masking: masked tokens: which ones, what stands in their place, the loss of their prediction.
filters: task-aware filters, their heads, divergence and layer-wise distillation through them.
"""
