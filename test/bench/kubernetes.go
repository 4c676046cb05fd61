package main

import "fmt"

// kubernetes are the rows that need an API server: what an object costs, until the control
// services have done their part (Objects) and until packets are on four nodes (Nodes), and
// what a cluster of 1,000 nodes, 10,000 pods and 5,000 services takes (Memory). What Kubernetes'
// own load tests (clusterloader) measure too has their name.
func kubernetes() []row {
	const objects, memory = "BenchmarkObjectsOnKubernetes", "BenchmarkMemoryOnKubernetes"
	of := scaled
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
	all = append(all, onNodes()...)
	for _, service := range []string{"ipam", "tenancy", "servicelb", "egress", "nodeagent", "certificates"} {
		all = append(all, of(memory, service+": memory", "a bare cache of what it follows", service+"-MB", service+"-bare-MB", "MB"))
	}
	return all
}

// scaled is a row of a benchmark in test/kubescale.
func scaled(benchmark, what, baseline, ours, theirs, unit string) row {
	return row{what, baseline, "test/kubescale", benchmark, "1x", ours, theirs, unit, 0}
}

// onNodes are the rows of objects that four nodes do something with.
func onNodes() []row {
	of := func(what, baseline, ours, theirs, unit string) row {
		return scaled("BenchmarkNodesOnKubernetes", what, baseline, ours, theirs, unit)
	}
	const bridge = "bridge with host-local"
	all := []row{
		of("PodStartupLatency, network: CNI ADD, median", bridge, "pod-add-ms", "pod-add-bridge-ms", "ms"),
		of("PodStartupLatency, network: CNI ADD, p99", bridge, "pod-add-p99-ms", "pod-add-bridge-p99-ms", "ms"),
		of("PodStartupLatency, network: Pod created until its first packet, median", bridge, "pod-ms", "pod-bridge-ms", "ms"),
		of("PodStartupLatency, network: Pod created until its first packet, p99", bridge, "pod-p99-ms", "pod-bridge-p99-ms", "ms"),
	}
	for _, object := range []struct{ measured, name string }{
		{"", "pod"},
		{"ServiceCreationLatency: Service and slice created until all nodes are answered", "service"},
		{"NetworkProgrammingLatency: EndpointSlice changed until all nodes reach the new endpoint", "endpoint"},
		{"NetworkPolicyEnforcement, policy-creation: until pods on all nodes are open", "policy"},
		{"Namespace created until a pod of it is attached on all nodes", "namespace"},
	} {
		const watch = "a bare watch tells of it"
		if object.measured != "" {
			all = append(all,
				of(object.measured+", median", watch, object.name+"-ms", object.name+"-watch-ms", "ms"),
				of(object.measured+", p99", watch, object.name+"-p99-ms", object.name+"-watch-p99-ms", "ms"))
		}
		all = append(all,
			of(object.name+": requests of the services for each", "writing it", object.name+"-service-calls", object.name+"-own-call", ""),
			of(object.name+": requests of the agents for each", "writing it", object.name+"-agent-calls", object.name+"-own-call", ""),
			of(object.name+": sent to the services for each", "a bare watch", object.name+"-service-bytes", object.name+"-watch-bytes", "bytes"),
			of(object.name+": sent to the agents for each", "a bare watch", object.name+"-agent-bytes", object.name+"-watch-bytes", "bytes"))
	}
	return all
}
