"""Training, measuring and exporting models. Needs the extra ``[train]``; the rest of the package never imports this."""
