"""Second copies of the store: elsewhere on disk, over SSH, in an S3 bucket; written, thinned out and read back."""
