"""What modules give: parts of structures, and tokens on their grid."""
