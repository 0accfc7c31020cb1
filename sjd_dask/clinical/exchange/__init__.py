"""What a clinical sheet, its scores and its molecular classes are in the formats that others read."""
