"""The control plane: accounts, avatars, sessions, usage; it finds a worker for every session.

Compatible with the public AgentHuman API. It knows the worker's HTTP and job contract and nothing
of frames or audio.
"""
