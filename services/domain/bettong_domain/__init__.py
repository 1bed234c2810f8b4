"""The rules of the product, free of input and output: names, models, pipelines, plans, deployments."""
