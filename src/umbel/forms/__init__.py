"""What a keyword may be given, as values: a number within limits, a function, an object of a class. Knows no keyword."""

from umbel.forms.form import Form, anything, either
from umbel.forms.objects import function, functions, instance, maker, objects, parameters, several
from umbel.forms.plain import flag, mapping, names, one_of, path, pem, real, some_of, text, whole

__all__ = [
    "Form",
    "anything",
    "either",
    "flag",
    "function",
    "functions",
    "instance",
    "maker",
    "mapping",
    "names",
    "objects",
    "one_of",
    "parameters",
    "path",
    "pem",
    "real",
    "several",
    "some_of",
    "text",
    "whole",
]
