"""What is stored of models, pipelines and deployments, and their files: the same for every role."""
