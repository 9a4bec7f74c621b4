"""K-FAC, digital or thermodynamic (Martens & Grosse 2015; TKFAC, arXiv 2502.08603)."""
