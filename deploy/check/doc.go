// Package check asks a real API server for its opinion of the manifests and of the Helm chart.
//
// It owns `make deploy-check`. Definitions and the namespace are applied; everything
// else by server-side apply as a dry run, with strict validation of fields: so names, types,
// what admission says and what the definitions' rules say are as in a cluster. The chart is
// besides installed, upgraded, rolled back and uninstalled by Helm's own code. It promises
// nothing about what controllers make of it. The kinds of the components monitoring and
// cert-manager are others', whose definitions are not in this repository: testdata defines as
// much of them as we use.
package check
