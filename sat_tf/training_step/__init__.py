"""One update of a captioner: gradients applied, figures logged."""
