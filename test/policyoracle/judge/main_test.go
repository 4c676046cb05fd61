package main

import (
	"strings"
	"testing"
)

const closed = `{"objects": [
	{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "x"}},
	{"kind": "Pod", "apiVersion": "v1", "metadata": {"namespace": "x", "name": "web"}, "spec": {"nodeName": "node"}, "status": {"phase": "Running", "podIPs": [{"ip": "10.1.0.1"}]}},
	{"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "metadata": {"namespace": "x", "name": "p"},
	 "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 80}]}]}}],
	"questions": [
	{"from": "192.0.2.7", "to": "10.1.0.1", "protocol": "TCP", "port": 80},
	{"from": "192.0.2.7", "to": "10.1.0.1", "protocol": "UDP", "port": 80},
	{"from": "198.51.100.7", "to": "10.1.0.1", "protocol": "TCP", "port": 80},
	{"from": "10.1.0.1", "to": "198.51.100.7", "protocol": "TCP", "port": 80}]}`

func TestEachLineIsAnsweredByItself(t *testing.T) {
	var out strings.Builder
	if err := serve(strings.NewReader(closed+`{"objects": [{"kind": "Node"}]}`+"\n"+closed), &out); err != nil {
		t.Fatal(err)
	}
	const verdicts = `{"allowed":[true,false,false,true]}`
	if want := verdicts + "\n" + `{"allowed":null,"error":"the engine takes no \"Node\""}` + "\n" + verdicts + "\n"; out.String() != want {
		t.Errorf("got %s, want %s", out.String(), want)
	}
	if err := serve(strings.NewReader("{]"), &out); err == nil {
		t.Error("what is no JSON was taken")
	}
}
