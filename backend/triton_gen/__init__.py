"""The deterministic generator of Triton kernels: one writer for every loop structure, in many variants."""

from .translator import Plan as Plan
from .translator import TemplateTranslator as TemplateTranslator
from .translator import plan as plan
