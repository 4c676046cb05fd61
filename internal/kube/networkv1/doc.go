// Package networkv1 is network.openshift.io/v1 as Damask has it: the objects that
// OpenShift SDN's administrators know, with the same fields, and beyond them a status with
// conditions.
//
// It owns the Go types, and the CustomResourceDefinitions that are generated from them
// (deploy/crds, by make generate). It promises that an object of OpenShift's is one of
// these. It must not know who writes or reads them.
//
// What a person or another controller sets is checked by the API server, by the rules
// here, and again by the service that takes it.
//
// +kubebuilder:object:generate=true
// +groupName=network.openshift.io
// +versionName=v1
package networkv1
