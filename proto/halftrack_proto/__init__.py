"""The wire: versioned messages and services, and the codec between them and the model."""
