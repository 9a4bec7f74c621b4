"""What an SPU does: Ornstein-Uhlenbeck relaxation, its circuit, its precision."""
