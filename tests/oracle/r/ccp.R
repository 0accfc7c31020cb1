# ConsensusClusterPlus 1.62.0 on a table with features in rows: mean consensus of 20 seeds and how far seeds are apart.
# Rscript ccp.R INPUT.tsv.gz     (oracles/ccp/ALL_input.tsv.gz of the reference data)
library(ConsensusClusterPlus)
input <- commandArgs(trailingOnly = TRUE)[1]
m <- as.matrix(read.table(gzfile(input), header = TRUE, row.names = 1, check.names = FALSE))
settings <- list(hc_pearson = c("hc", "pearson"), km_euclidean = c("km", "euclidean"), pam_pearson = c("pam", "pearson"))
seeds <- 1:20
apart <- NULL
columns <- list()
for (name in names(settings)) {
  found <- lapply(seeds, function(seed) {
    pdf(NULL)
    on.exit(dev.off())
    ConsensusClusterPlus(m, maxK = 6, reps = 200, pItem = 0.8, pFeature = 1, clusterAlg = settings[[name]][1],
      distance = settings[[name]][2], innerLinkage = "average", finalLinkage = "average", seed = seed, plot = NULL)
  })
  for (k in 2:6) {
    lower <- sapply(found, function(r) r[[k]]$consensusMatrix[lower.tri(r[[k]]$consensusMatrix)])
    middle <- rowMeans(lower)
    columns[[paste0(name, "_k", k)]] <- round(middle, 5)
    pairs <- combn(length(seeds), 2)
    between <- mean(apply(pairs, 2, function(p) mean((lower[, p[1]] - lower[, p[2]])^2)))
    apart <- rbind(apart, data.frame(alg = name, k = k, between = between, around = mean((lower - middle)^2)))
  }
}
save <- function(table, name) {
  out <- gzfile(file.path("..", "reference", "ccp", paste0(name, ".tsv.gz")), "w")
  write.table(table, out, sep = "\t", quote = FALSE, row.names = FALSE)
  close(out)
}
save(as.data.frame(columns), "mean_consensus")
save(apart, "seeds")
