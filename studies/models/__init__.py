"""Which families of causal LMs can be audited: every one that transformers has, built tiny and tried."""
