"""How strong is the evidence from editing that a behaviour of a language model is localized?"""

__version__ = "0.1.0"
