# cluster::pam 2.1.4 on 40 subsets of a table with features in rows, 1 - Pearson correlation of samples.
# Rscript pam.R INPUT.tsv.gz     (oracles/ccp/ALL_input.tsv.gz of the reference data)
library(cluster)
input <- commandArgs(trailingOnly = TRUE)[1]
m <- as.matrix(read.table(gzfile(input), header = TRUE, row.names = 1, check.names = FALSE))
d <- 1 - cor(m)
set.seed(9)
out <- NULL
for (subset in 1:40) {
  drawn <- sort(sample(ncol(m), 102))
  for (k in 2:6) {
    group <- pam(as.dist(d[drawn, drawn]), k, diss = TRUE, cluster.only = TRUE)
    out <- rbind(out, data.frame(subset = subset, k = k, drawn = paste(drawn, collapse = " "), group = paste(group, collapse = " ")))
  }
}
file <- gzfile(file.path("..", "reference", "ccp", "pam.tsv.gz"), "w")
write.table(out, file, sep = "\t", quote = FALSE, row.names = FALSE)
close(file)
