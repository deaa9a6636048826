"""How good a reply is and how sure we are of it: metrics, verifiers, intervals, paired tests."""
