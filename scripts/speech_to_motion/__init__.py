"""What ``train_speech_to_motion.py`` is made of: speech, targets, augmentation, training."""
