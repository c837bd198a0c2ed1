"""Language of instances, text encoders and relevancy."""
