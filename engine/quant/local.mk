# Page formats and their micro-kernels.
