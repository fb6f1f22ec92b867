"""The worker as a RunPod serverless worker: one job is one session."""
