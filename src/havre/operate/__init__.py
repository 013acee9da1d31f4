"""Operating a home: what `havre up`, `down` and `status` do, for whoever else needs it.

``start`` and ``stop`` are the way in. ``bringup`` has the supervisor run the processes of a server,
``upgrade`` puts another version in the place of the one that runs. ``presence`` finds the home's
supervisor, ``diagnosis`` says why a server is not healthy, ``status`` sums both up, ``connection``
makes a client of the API. Nothing here prints: progress goes to a callback.
"""
