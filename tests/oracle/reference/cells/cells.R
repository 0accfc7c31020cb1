# Cell fractions by quadprog and MASS: simulated tables, and fractions of public data where they are there.
suppressMessages({library(MASS); library(quadprog)})
save <- function(x, name) {
  x <- as.data.frame(x); out <- gzfile(paste0(name, ".tsv.gz"), "w")
  write.table(data.frame(id = rownames(x), lapply(x, function(v) sprintf("%.17g", v)), check.names = FALSE), out,
              sep = "\t", quote = FALSE, row.names = FALSE); close(out)
}
constrained <- function(Y, W, total) t(apply(Y, 2, function(y) {
  ok <- !is.na(y); k <- ncol(W); A <- diag(k); b <- rep(0, k); meq <- 0
  if (total != "free") { A <- if (total == "one") cbind(rep(1, k), A) else cbind(rep(-1, k), A)
                         b <- c(if (total == "one") 1 else -1, b); meq <- as.integer(total == "one") }
  solve.QP(crossprod(W[ok, ]), crossprod(W[ok, ], y[ok]), A, b, meq)$solution }))
robust <- function(Y, W, maxit) t(apply(Y, 2, function(y) {
  fit <- suppressWarnings(rlm(y ~ W, maxit = maxit)); p <- pmax(coef(fit)[-1], 0); c(p / sum(p), fit$converged) }))
all_of <- function(Y, W, name) {
  for (total in c("free", "at_most_one", "one")) {
    p <- constrained(Y, W, total); colnames(p) <- colnames(W); save(p, paste0(name, "_", total)) }
  p <- robust(Y, W, 50); colnames(p) <- c(colnames(W), "converged"); save(p, paste0(name, "_robust"))
}
set.seed(7)
for (k in c(2, 6, 12)) {
  m <- 15 * k; n <- 24
  W <- matrix(rbeta(m * k, .4, .4), m, k, dimnames = list(paste0("cg", 1:m), paste0("cell", 1:k)))
  P <- matrix(rgamma(n * k, .5), n, k); P <- P / rowSums(P) * rep(c(1, .8, 1.1), length.out = n)
  Y <- W %*% t(P) + matrix(rnorm(m * n, sd = .05), m, n)
  Y[sample(length(Y), m)] <- runif(m)                       # outlying probes
  Y[sample(length(Y), 2 * m)] <- NA
  colnames(Y) <- paste0("s", 1:n)
  save(W, paste0("simulated", k, "_profiles")); save(Y, paste0("simulated", k, "_values"))
  all_of(Y, W, paste0("simulated", k))
}
folder <- commandArgs(TRUE)
if (length(folder)) {
  read <- function(f) as.matrix(read.csv(f, row.names = 1, check.names = FALSE))
  at <- function(f) file.path(folder, "data", f)
  liu <- read(at("cell_reference_methylation/EpiDISH_LiuDataSub.m.csv"))
  ra <- read(gzfile(at("ra_meth_GSE42861_500cpg/beta.csv.gz")))
  for (ref in c("centDHSbloodDMC", "cent12CT450k", "centBloodSub")) {
    W <- read(at(paste0("cell_reference_methylation/EpiDISH_", ref, ".m.csv")))
    ids <- intersect(rownames(W), rownames(liu)); cat(ref, length(ids), length(intersect(rownames(W), rownames(ra))), "\n")
    if (length(ids) < 3 * ncol(W)) next
    Y <- liu[ids, ]; colnames(Y) <- seq_len(ncol(Y)); all_of(Y, W[ids, ], paste0("liu_", ref))
  }
}
