"""The load: plans, the generator that carries them out, and what it records."""
