"""The mathematics of the methods, in plain torch: no model, no data, no flags.

losses: task losses, soft labels, hidden states, patient distillation; which layers are matched.
filters: task-aware filters, their heads, divergence and layer-wise distillation through them.
importance: scores of attention heads and neurons from mask gradients, and their global ranking.
knowledge: StarK's scores, which count the student in.
linear: linear layers that compute with the first kept units.
objectives: which terms each conventional distillation objective adds up.
"""
