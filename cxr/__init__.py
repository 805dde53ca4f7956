"""What is true of any chest radiograph, whatever the model. Imports no stage; PyTorch only in torchkit.py."""
