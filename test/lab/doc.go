// Package lab holds the tests of whole clusters: each starts a lab with
// bin/damask as a person would, runs real packets through it, and takes it
// down again. What reaches what is compared with a model written here, apart
// from the code under test.
//
// Those with OnKubernetes in their names have an API server besides, and a stand-in for
// kubelets; they are part of `make test-kubernetes`.
//
// The tests need root and what `make packages` installs, and bin/ as `make
// build` leaves it. They own nothing outside the labs that they start.
package lab
