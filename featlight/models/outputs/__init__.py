"""The layout of module outputs: parts of structures, feature dimensions, and tokens on their grid."""
