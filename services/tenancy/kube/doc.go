// Package kube brings tenancy and a Kubernetes cluster together.
//
// It owns what objects mean to tenancy, and what tenancy says on them: a Namespace has a
// VNID, which is in its NetNamespace; the ClusterNetwork's pluginName is the isolation
// mode; policies are applied as they are written; Pods say labels, ports, and when they
// have ended; and Pods of nodes without an agent of ours are known by what the cluster says
// of them. It calls what the gRPC handlers call, and decides nothing about tenants
// itself. It promises that no pod is registered without its labels, that no VNID of a
// NetNamespace that the store does not know is handed out, that what is refused is said
// on the object with every reason, and that nothing is removed from the store because
// another cluster does not have it.
//
// Which fields it writes: of a NetNamespace netname, netid, the annotation with its
// Namespace's UID and its conditions; annotations that people set are only removed, when
// they are done. Nobody else's fields are touched.
package kube
