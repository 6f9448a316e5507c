"""Quality of text: filters, private data, questions of tasks, and signatures by which copies of documents are found."""
