"""The method under loss that it was not trained on."""
