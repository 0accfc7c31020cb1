# Normalisation of simulated counts by edgeR, limma and DESeq2. Run in this folder: Rscript counts.R
suppressMessages({library(edgeR); library(DESeq2)})
out <- "../reference/counts"
dir.create(out, showWarnings = FALSE)
save_table <- function(x, name) {
  x <- as.data.frame(x, check.names = FALSE)
  text <- as.data.frame(lapply(x, function(column) {
    if (is.character(column)) column else formatC(as.numeric(column), digits = 17, format = "g", width = 1)
  }), check.names = FALSE)
  text <- cbind(id = rownames(x), text)
  connection <- gzfile(file.path(out, paste0(name, ".tsv.gz")), "w", compression = 9)
  write.table(text, connection, sep = "\t", quote = FALSE, row.names = FALSE)
  close(connection)
}

set.seed(20)
n <- 18; p <- 1200
mean_count <- exp(rnorm(p, 4, 2))
depth <- exp(rnorm(n, 0, 0.5))
group <- rep(c("a", "b", "c"), c(9, 6, 3))
age <- round(runif(n, 20, 80), 1)
sex <- rep(c("f", "m"), 9)
effect <- matrix(1, p, n)
effect[1:150, group == "b"] <- 4
effect[151:200, group == "c"] <- 0.2
mu <- outer(mean_count, depth) * effect
y <- matrix(rnbinom(n * p, mu = mu, size = 1 / (0.1 + 2 / mean_count)), p, n)
y[1191:1200, ] <- 0
sparse_mu <- outer(exp(rnorm(300, 0, 1.5)), exp(rnorm(10, 0, 0.6)))
sparse <- matrix(rnbinom(3000, mu = sparse_mu, size = 1), 300, 10)
sparse[1:5, ] <- 0
dimnames(y) <- list(sprintf("g%04d", 1:p), sprintf("%02d", 1:n))
dimnames(sparse) <- list(sprintf("g%03d", 1:300), sprintf("%02d", 1:10))
samples <- data.frame(group, age, sex, row.names = colnames(y))
save_table(y, "counts"); save_table(sparse, "sparse"); save_table(samples, "samples")

factors <- function(y) data.frame(
  lib_size = colSums(y),
  tmm = calcNormFactors(y),
  tmm_plain = calcNormFactors(y, doWeighting = FALSE),
  tmm_trim = calcNormFactors(y, logratioTrim = 0.1, sumTrim = 0.2),
  tmm_acutoff = calcNormFactors(y, Acutoff = -12),
  tmm_ref3 = calcNormFactors(y, refColumn = 3),
  tmmwsp = calcNormFactors(y, method = "TMMwsp"),
  tmmwsp_plain = calcNormFactors(y, method = "TMMwsp", doWeighting = FALSE),
  upper_quartile = calcNormFactors(y, method = "upperquartile"),
  upper_quartile_9 = calcNormFactors(y, method = "upperquartile", p = 0.9),
  rle = calcNormFactors(y, method = "RLE"),
  poscounts = sizeFactors(estimateSizeFactors(
    suppressMessages(DESeqDataSetFromMatrix(y, data.frame(row.names = colnames(y)), ~1)), type = "poscounts")),
  check.names = FALSE)
f <- factors(y)
f$ratio <- estimateSizeFactorsForMatrix(y)
save_table(f, "factors")
save_table(factors(sparse), "factors_sparse")

design <- model.matrix(~ group + age)
d <- DGEList(y)
keep <- data.frame(
  none = suppressMessages(filterByExpr(y)),
  group = filterByExpr(y, group = group),
  design = filterByExpr(y, design = design),
  tmm_group = filterByExpr(calcNormFactors(d), group = group),
  large = filterByExpr(y, group = rep("x", n), large.n = 4, min.prop = 0.5, min.count = 30, min.total.count = 900))
save_table(keep + 0, "filter")
shown <- c(1:20, 1150:1200)
for (pc in c(2, 0.5)) save_table(cpm(calcNormFactors(d), log = TRUE, prior.count = pc)[shown, ], paste0("log_cpm_", pc))
kept <- d[keep$group, , keep.lib.sizes = FALSE]
save_table(voom(calcNormFactors(kept), design)$E[1:40, ], "voom")
kept <- calcNormFactors(d)[keep$tmm_group, , keep.lib.sizes = FALSE]
save_table(cpm(kept, log = TRUE)[1:40, ], "log_cpm_after_filter")
save_table(data.frame(lib_size = kept$samples$lib.size, norm_factor = kept$samples$norm.factors,
                      row.names = colnames(y)), "after_filter")

# The trend of dispersion: vst's own choice of genes, then the same on all genes.
trends <- data.frame()
for (case in list(c("blind", "~1"), c("groups", "~group"), c("additive", "~group+age"))) {
  dds <- suppressMessages(DESeqDataSetFromMatrix(y, samples, as.formula(case[2])))
  dds <- estimateSizeFactors(dds)
  v <- suppressMessages(vst(dds, blind = FALSE, nsub = 400))
  base_mean <- rowMeans(counts(dds, normalized = TRUE))
  high <- which(base_mean > 5)
  chosen <- dds[high[order(base_mean[high])[round(seq(1, length(high), length = 400))]], ]
  chosen <- estimateDispersionsFit(estimateDispersionsGeneEst(chosen, quiet = TRUE), quiet = TRUE)
  coefficients <- attr(dispersionFunction(chosen), "coefficients")
  all <- estimateDispersionsFit(estimateDispersionsGeneEst(dds, quiet = TRUE), quiet = TRUE)
  all_coefficients <- attr(dispersionFunction(all), "coefficients")
  mean_fit <- estimateDispersionsFit(estimateDispersionsGeneEst(dds, quiet = TRUE), fitType = "mean", quiet = TRUE)
  trends <- rbind(trends, data.frame(asymptotic = coefficients[[1]], extra = coefficients[[2]],
    all_asymptotic = all_coefficients[[1]], all_extra = all_coefficients[[2]],
    mean = attr(dispersionFunction(mean_fit), "mean"), row.names = case[1]))
  save_table(assay(v)[shown, ], paste0("vst_", case[1]))
  save_table(data.frame(dispersion = mcols(all)$dispGeneEst, row.names = rownames(y)), paste0("dispersions_", case[1]))
}
save_table(trends, "trends")
dds <- estimateSizeFactors(suppressMessages(DESeqDataSetFromMatrix(y, samples, ~1)))
save_table(assay(suppressMessages(vst(dds, nsub = 400, fitType = "mean")))[shown, ], "vst_mean")
