"""From a framed photo to an identity: everything that is computed once per portrait."""
