package kubetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// AsServiceAccount applies a manifest with one ServiceAccount and what it may do, and makes
// the user that pods of this ServiceAccount are. So a test runs with the rights that are
// shipped. The namespaces of the ServiceAccount and of its roles are made.
func (c *Cluster) AsServiceAccount(t testing.TB, manifest string) *User {
	t.Helper()
	account, namespaces, err := readAccount(manifest)
	if err != nil {
		t.Fatalf("read %s: %v", manifest, err)
	}
	for namespace := range namespaces {
		c.Apply(t, fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", namespace))
	}
	c.ApplyFiles(t, manifest)
	// What the API server makes of a ServiceAccount's token.
	return c.As(t, "system:serviceaccount:"+account.Namespace+":"+account.Name,
		"system:serviceaccounts", "system:serviceaccounts:"+account.Namespace)
}

// readAccount answers a manifest's only ServiceAccount, and all namespaces that objects
// of the manifest are in.
func readAccount(manifest string) (account corev1.ServiceAccount, namespaces map[string]bool, err error) {
	text, err := os.ReadFile(manifest)
	if err != nil {
		return account, nil, err
	}
	namespaces = map[string]bool{}
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var object corev1.ServiceAccount // of the others only what all objects have
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return account, nil, err
		}
		if object.Namespace != "" {
			namespaces[object.Namespace] = true
		}
		switch {
		case object.Kind != "ServiceAccount":
		case account.Name != "":
			return account, nil, fmt.Errorf("it has the ServiceAccounts %s and %s", account.Name, object.Name)
		default:
			account = object
		}
	}
	if account.Name == "" || account.Namespace == "" {
		return account, nil, errors.New("it has no ServiceAccount with a namespace")
	}
	return account, namespaces, nil
}
