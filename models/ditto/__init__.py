"""The photoreal engine: HuBERT hears, a motion diffusion model performs, a neural renderer paints.

One file of ``networks`` is one network, and reads from top to bottom. They load the weights that
the Ditto project released (``weights``), and give the same numbers: ``tests/models/ditto`` holds
them to it.

The corridor of one second of speech::

    hubert ─▶ lmdm (denoises a window of 80 motions) ─▶ stitch ─▶ warp ─▶ decoder

``appearance`` and ``motion_extractor`` run once per portrait.
"""
