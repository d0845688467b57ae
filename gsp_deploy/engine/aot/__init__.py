"""Experimental: the pooling in the language Triton, compiled ahead of time into the plan itself.

No plugin is needed where such a plan runs, nor a compiler where it is built. It is slower than the
kernel of `plugins/gsp_pooling`.
"""
