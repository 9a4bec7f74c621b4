"""How far the model of digital processors is off measurements."""
