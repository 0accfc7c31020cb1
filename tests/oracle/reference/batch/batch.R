# ComBat and removeBatchEffect on simulated data. Run from this folder: Rscript batch.R. See README.md.
suppressMessages({library(sva); library(limma)})
save <- function(x, name) {
  x <- as.data.frame(x)
  x[] <- lapply(x, function(v) if (is.numeric(v)) ifelse(is.na(v), "NA", sprintf("%.17g", v)) else v)
  con <- gzfile(paste0(name, ".tsv.gz"), "wb")
  write.table(x, con, sep = "\t", quote = FALSE, row.names = FALSE)
  close(con)
}
set.seed(7)
G <- 48; size <- c(8, 7, 6, 5); n <- sum(size)
batch <- rep(c("a", "b", "c", "d"), size)
disease <- rep(c("control", "patient"), length.out = n)
age <- round(runif(n, 20, 70), 1)
plate <- sample(rep(c("p", "q", "r"), length.out = n))
y <- matrix(rnorm(G * n), G) * sqrt(1 / rgamma(G, 3, 3)) + rnorm(G, 8, 2)
for (b in unique(batch)) {
  at <- batch == b
  y[, at] <- (y[, at] - rowMeans(y[, at])) * sqrt(1 / rgamma(G, 6, 5)) + rowMeans(y[, at]) + rnorm(G, match(b, letters) / 4, 0.6)
}
y <- y + outer(rnorm(G, 0, 0.5), disease == "patient") + outer(rnorm(G, 0, 0.02), age)
y <- round(y, 5)
colnames(y) <- sprintf("s%02d", 1:n)
order <- sample(n)
y <- y[, order]; batch <- batch[order]; disease <- disease[order]; age <- age[order]; plate <- plate[order]
ym <- y; ym[sample(length(y), 60)] <- NA
flat <- y; flat[3, batch == "b"] <- 8; flat[10, ] <- 5; flat[11, batch == "d"] <- 0
flatm <- flat; flatm[3, which(batch == "b")[1]] <- NA; flatm[20, 5] <- NA
one <- batch; one[which(batch == "d")[-1]] <- "a"
save(y, "y"); save(ym, "y_missing"); save(flat, "y_flat"); save(flatm, "y_flat_missing")
save(data.frame(sample = colnames(y), batch, one, plate, disease, age), "samples")
mod <- model.matrix(~disease + age)
run <- function(...) suppressMessages(ComBat(...))
save(run(y, batch), "plain")
save(run(y, batch, mod), "covariates")
save(run(y, batch, mod, mean.only = TRUE), "mean_only")
save(run(y, batch, mod, ref.batch = "c"), "reference")
save(run(y, batch, mod, ref.batch = "c", mean.only = TRUE), "reference_mean_only")
save(run(y, batch, par.prior = FALSE), "nonparametric")
save(run(y, batch, mod, par.prior = FALSE, mean.only = TRUE), "nonparametric_mean_only")
save(run(y, batch, mod, par.prior = FALSE, ref.batch = "c"), "nonparametric_reference")
save(run(ym, batch, mod), "missing")
save(run(ym, batch, mod, ref.batch = "c"), "missing_reference")
save(run(ym, batch, mod, mean.only = TRUE), "missing_mean_only")
save(run(ym, batch, mod, par.prior = FALSE), "missing_nonparametric")
save(run(flat, batch, mod), "flat")
save(run(flatm, batch, mod), "flat_missing")
save(run(y, one, mod), "one_sample")
rbe <- function(x, ...) suppressWarnings(removeBatchEffect(x, ...))
design <- model.matrix(~disease)
save(rbe(y, batch), "removed_batch")
save(rbe(y, batch, plate, covariates = age, design = design), "removed_all")
save(rbe(y, covariates = age, design = design), "removed_age")
gone <- ym; gone[5, batch == "d"] <- NA; gone[6, batch == "b" & disease == "control"] <- NA; gone[7, ] <- NA
gone[8, disease == "patient"] <- NA
save(gone, "y_gone")
save(rbe(gone, batch, plate, covariates = age, design = design), "removed_gone")
