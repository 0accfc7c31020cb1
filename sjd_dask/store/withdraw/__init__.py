"""Taking people out of a cohort: their rows, their cells, their names, on disk and in the catalogue, past views too."""
