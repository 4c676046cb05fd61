package main

import "fmt"

// kubernetes are the rows of the control services on a real API server: what an object costs,
// and what a cluster of 1,000 nodes, 10,000 pods and 5,000 services does.
func kubernetes() []row {
	of := func(benchmark, what, baseline, ours, theirs, unit string) row {
		return row{what, baseline, "test/kubescale", benchmark, "1x", ours, theirs, unit, 0}
	}
	const objects, memory = "BenchmarkObjectsOnKubernetes", "BenchmarkMemoryOnKubernetes"
	var all []row
	for _, object := range []struct{ kind, becomes, name string }{
		{"Namespace", "its NetNamespace is there", "namespace"},
		{"Service", "it is in the store", "service"},
		{"NetworkPolicy", "it is in the store", "policy"},
	} {
		all = append(all,
			of(objects, fmt.Sprintf("%s created until %s, median", object.kind, object.becomes), "a bare watch tells of it", object.name+"-ms", object.name+"-watch-ms", "ms"),
			of(objects, object.kind+": requests to the API server for each", "its creation", object.name+"-calls", object.name+"-own-call", ""),
			of(objects, object.kind+": sent by the API server for each", "a bare watch", object.name+"-bytes", object.name+"-watch-bytes", "bytes"))
	}
	for _, service := range []string{"ipam", "tenancy", "servicelb", "egress"} {
		all = append(all, of(memory, service+": memory", "a bare cache of what it follows", service+"-MB", service+"-bare-MB", "MB"))
	}
	return all
}
