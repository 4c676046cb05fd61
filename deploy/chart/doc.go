// Package chart makes the Helm chart of Damask out of the Kustomize manifests.
//
// It owns the chart: what can be set (damask/values.yaml, damask/values.schema.json), and where
// in the manifests' objects that goes. It owns no object and no configuration: these are
// package kustomize's, built from the overlay "ha" with each of its options, so whatever is
// changed there is changed here.
//
// It promises that the chart with an option's values has the objects of the overlay with that
// option and no others, that the same manifests make the same bytes, and that a change of
// the manifests that a value would no longer reach is an error when the chart is made, and
// not a surprise where it is installed. It must not write what a manifest says a second time.
//
// Used by `make chart`; see docs/decisions/036-the-chart-is-made-of-the-manifests.md.
package chart
