# Reference numbers for arrays: quantile normalisation with ties and missing values together, the order in which R's
# quicksort leaves equal values, scaling by sizes, and background correction of hard cases. Run in this folder.
library(limma)
library(preprocessCore)
write <- function(x, name) {
  text <- apply(as.matrix(x), 2, function(v) ifelse(is.na(v), "NaN", sprintf("%.17g", v)))
  con <- gzfile(paste0(name, ".tsv.gz"), "w")
  write.table(text, con, sep = "\t", quote = FALSE, row.names = FALSE)
  close(con)
}
set.seed(7)
n <- 400
m <- matrix(round(rnorm(n * 6), 1), n, 6, dimnames = list(NULL, paste0("s", 1:6)))
m[sample(length(m), 120)] <- NA
m[, 6] <- round(rnorm(n, 1), 1)
write(m, "ties_na_input")
write(normalizeQuantiles(m, ties = TRUE), "ties_na_limma_ties")
write(normalizeQuantiles(m, ties = FALSE), "ties_na_limma_noties")
write(normalize.quantiles(m), "ties_na_preprocessCore")
target <- normalize.quantiles.determine.target(m[, 1:3])
write(normalize.quantiles.use.target(m, target), "ties_na_preprocessCore_target13")
write(normalizeMedianAbsValues(m), "ties_na_median_abs")

# Lengths around the sort's change of method (11), and long runs of equal values.
sizes <- c(2, 9, 10, 11, 12, 13, 50, 501, 3000)
order <- do.call(rbind, lapply(sizes, function(size) {
  do.call(rbind, lapply(c(2, 7, 40), function(levels) {
    x <- sample(levels, size, replace = TRUE) - 3
    data.frame(size = size, levels = levels, x = x, order = sort(x, method = "quick", index.return = TRUE)$ix)
  }))
}))
write(order, "quick_order")

# Background: an array with little background, one with little signal, one with few values; and their corrected values.
arrays <- list(
  quiet = rnorm(600, 30, 2) + rexp(600, 1 / 4000),
  loud = rnorm(600, 900, 120) + rexp(600, 1 / 40),
  short = c(12, 15, 19, 44, 51, 230)
)
saddle <- do.call(rbind, lapply(names(arrays), function(name) {
  x <- arrays[[name]]
  fit <- normexp.fit(x, method = "saddle")
  mle <- normexp.fit(x, method = "mle")
  data.frame(
    array = match(name, names(arrays)), x = x, mu = fit$par[1], log_sigma = fit$par[2], log_alpha = fit$par[3],
    m2loglik = fit$m2loglik, signal = normexp.signal(fit$par, x), mle_mu = mle$par[1], mle_log_sigma = mle$par[2],
    mle_log_alpha = mle$par[3], mle_m2loglik = mle$m2loglik
  )
}))
write(saddle, "normexp")
huber <- MASS::huber(arrays$loud)
write(data.frame(mu = huber$mu, s = huber$s), "huber")
