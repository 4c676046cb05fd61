package check

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"

	"github.com/damask-sdn/damask/deploy/chart"
)

// TestFromTheManifestsToTheChart: what `kubectl apply` installed Helm goes on with, and replaces
// nothing; nor does an upgrade that changes nothing.
func TestFromTheManifestsToTheChart(t *testing.T) {
	r, c := startHelm(t), made(t, nil)
	objects := build(t, "ha")
	r.namespaces(objects)
	r.Apply(t, string(bytes.Join(objects, []byte("\n---\n"))))
	before := r.workloads()
	if len(before) != 8 {
		t.Fatalf("the workloads are %v", before)
	}
	if err := r.install(c, values["ha"], false); err == nil || !strings.Contains(err.Error(), "cannot be imported into the current release") {
		t.Fatalf("what is not its own is taken without asking: %v", err)
	}
	if err := r.install(c, values["ha"], true); err != nil {
		t.Fatal(err)
	}
	if after := r.workloads(); !maps.Equal(before, after) {
		t.Errorf("the workloads were\n%v\nand with the chart are\n%v", before, after)
	}
	r.upgrade(c, values["ha"])
	if after := r.workloads(); !maps.Equal(before, after) {
		t.Errorf("the workloads were\n%v\nand after an upgrade to the same are\n%v", before, after)
	}
}

// TestAReleaseFromInstallToUninstall follows a release: what an upgrade and a rollback replace, and
// what stays when it is uninstalled, so that it can be installed again.
func TestAReleaseFromInstallToUninstall(t *testing.T) {
	r, c := startHelm(t), made(t, nil)
	if err := r.install(c, values["small"], false); err != nil {
		t.Fatal(err)
	}
	r.Apply(t, "{apiVersion: network.openshift.io/v1, kind: NetNamespace, metadata: {name: blue}, netname: blue, netid: 42}")
	r.Apply(t, "{apiVersion: v1, kind: Secret, metadata: {name: damask-ca, namespace: damask-system}, stringData: {tls.key: somebody's}}")

	first, ovs, ipam := r.workloads(), r.reads("daemonset/damask-ovs"), r.reads("deployment/damask-ipam")
	r.upgrade(c, values["small"]+"config: {ovs: {cpus: 4}, ipam: {log: {level: debug}}}")
	second := r.workloads()
	for workload, spec := range first {
		changed := workload == "damask-ovs" || workload == "damask-ipam"
		if (second[workload] != spec) != changed {
			t.Errorf("%s was\n%s\nand is\n%s", workload, spec, second[workload])
		}
	}
	// Open vSwitch's pods are as they were until somebody deletes them, and so is what they read.
	if strategy := r.Kubectl(t, "get", "daemonset/damask-ovs", "-n", namespace, "-o", "jsonpath={.spec.updateStrategy.type}"); strategy != "OnDelete" {
		t.Errorf("Open vSwitch is replaced by %s", strategy)
	}
	if !r.there("configmap", ovs, "-n", namespace) || r.there("configmap", ipam, "-n", namespace) {
		t.Errorf("of the earlier ConfigMaps %s is to stay, and %s to go", ovs, ipam)
	}

	rollback := action.NewRollback(r.helm)
	rollback.Version = 1
	if err := rollback.Run(chart.Name); err != nil {
		t.Fatalf("roll back: %v", err)
	}
	if gotOVS, gotIPAM := r.reads("daemonset/damask-ovs"), r.reads("deployment/damask-ipam"); gotOVS != ovs || gotIPAM != ipam || !r.there("configmap", ipam, "-n", namespace) {
		t.Errorf("after a rollback they read %s and %s, want %s and %s", gotOVS, gotIPAM, ovs, ipam)
	}

	r.upgrade(made(t, newDefinition(t)), values["small"])
	if columns := r.Kubectl(t, "get", "netnamespaces"); !strings.Contains(columns, "MADE") {
		t.Errorf("an upgrade brought no new definition:\n%s", columns)
	}

	r.uninstall()
	if left := r.workloads(); len(left) != 0 {
		t.Errorf("what runs still: %v", left)
	}
	r.stays("the uninstall")
	if err := r.install(c, values["small"], false); err != nil {
		t.Errorf("install again: %v", err)
	}
	r.stays("another install")
	if again := r.workloads(); !maps.Equal(again, first) {
		t.Errorf("the workloads are\n%v\nwant\n%v", again, first)
	}
}

// stays holds what is nobody's to delete.
func (r *releasing) stays(after string) {
	r.Helper()
	for _, object := range [][]string{
		{"netnamespace", "blue"},
		{"crd", "netnamespaces.network.openshift.io"}, {"crd", "hostsubnets.network.openshift.io"},
		{"crd", "clusternetworks.network.openshift.io"}, {"crd", "egressnetworkpolicies.network.openshift.io"},
		{"namespace", namespace}, {"secret", "damask-ca", "-n", namespace},
	} {
		if !r.there(object...) {
			r.Errorf("after %s there is no %v", after, object)
		}
	}
}

// newDefinition changes a definition as a later release might: it has one more column.
func newDefinition(t *testing.T) func(chart.Files) {
	return func(files chart.Files) {
		const file, columns = "templates/netnamespaces.network.openshift.io.yaml", "  - additionalPrinterColumns:\n"
		if !bytes.Contains(files[file], []byte(columns)) {
			t.Fatalf("%s has no %q:\n%s", file, columns, files[file])
		}
		files[file] = bytes.Replace(files[file], []byte(columns), []byte(columns+"    - {name: Made, type: date, jsonPath: .metadata.creationTimestamp}\n"), 1)
	}
}
