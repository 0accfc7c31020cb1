# Multiple correspondence analysis of simulated categories: FactoMineR, and MASS beside it.
suppressPackageStartupMessages({library(FactoMineR); library(MASS)})
set.seed(20260101)
n <- 120
group <- rep(1:3, each = n / 3)
chance <- list(c(.8, .2, .3), c(.7, .3, .2), c(.2, .8, .4), c(.3, .7, .3), c(.4, .2, .9), c(.5, .5, .5))
data <- as.data.frame(lapply(chance, function(p) c("no", "yes")[1 + rbinom(n, 1, p[group])]))
data$band <- c("low", "middle", "high")[1 + pmin(2, rpois(n, c(.3, 1, 2)[group]))]
names(data) <- c(paste0("v", 1:6), "band")
data[] <- lapply(data, factor)
write <- function(x, name) {
  con <- gzfile(file.path("..", "reference", "mca", name), "w")
  write.table(x, con, sep = "\t", quote = FALSE, row.names = FALSE)
  close(con)
}
dir.create("../reference/mca", showWarnings = FALSE)
digits <- function(x) { x <- as.data.frame(x); x[] <- lapply(x, function(v) if (is.numeric(v)) sprintf("%.17g", v) else v); x }
write(data, "data.tsv.gz")
fit <- MCA(data, ncp = 4, graph = FALSE)
write(digits(fit$eig[, 1, drop = FALSE]), "eigenvalues.tsv.gz")
write(digits(fit$ind$coord), "persons.tsv.gz")
write(cbind(category = rownames(fit$var$coord), digits(fit$var$coord)), "categories.tsv.gz")
tree <- cutree(hclust(dist(fit$ind$coord), method = "ward.D2"), 3)
write(data.frame(group = tree), "ward.tsv.gz")
other <- mca(data, nf = 4)
stopifnot(max(abs(other$d^2 - fit$eig[1:4, 1])) < 1e-12)
# Missing values as the shares of their variable's categories: correspondence analysis of the fuzzy indicators.
holes <- data
for (j in seq_along(holes)) holes[sample(n, 12), j] <- NA
fuzzy <- do.call(cbind, lapply(names(holes), function(v) {
  z <- sapply(levels(holes[[v]]), function(l) as.numeric(holes[[v]] == l))
  share <- colMeans(z, na.rm = TRUE)
  for (j in seq_along(share)) z[is.na(z[, j]), j] <- share[j]
  z
}))
again <- CA(as.data.frame(fuzzy), ncp = 4, graph = FALSE)
write(holes, "holes.tsv.gz")
write(digits(again$eig[1:4, 1, drop = FALSE]), "holes_eigenvalues.tsv.gz")
write(digits(again$row$coord), "holes_persons.tsv.gz")
cat(R.version.string, as.character(packageVersion("FactoMineR")), as.character(packageVersion("MASS")), "\n")
