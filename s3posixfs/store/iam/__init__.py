"""IAM's query API: users, keys and policies administered by any client of AWS IAM."""
