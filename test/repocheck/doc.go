// Package repocheck holds the house rules that a machine can check: package
// comments, sizes, names, who may depend on whom, links in the documents. It
// reads the repository as text and builds nothing.
package repocheck
