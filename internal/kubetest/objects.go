package kubetest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
)

var definitions = schema.GroupVersionResource{
	Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
}

// InstallCRDs applies CustomResourceDefinitions from files and directories, and
// returns when all of them are established, found by discovery and served.
func (c *Cluster) InstallCRDs(t testing.TB, paths ...string) {
	t.Helper()
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	finder, err := discovery.NewDiscoveryClientForConfig(c.Config())
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	for _, object := range c.ApplyFiles(t, paths...) {
		name, ok := strings.CutPrefix(object, "customresourcedefinition.apiextensions.k8s.io/")
		if !ok {
			t.Fatalf("install CRDs: there is %s among them", object)
		}
		await(t, c.server, name+" is served", func(ctx context.Context) error {
			return served(ctx, client, finder, name)
		})
	}
}

// served answers what a definition still lacks.
func served(ctx context.Context, client dynamic.Interface, finder discovery.DiscoveryInterface, name string) error {
	object, err := client.Resource(definitions).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	var crd definition
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.UnstructuredContent(), &crd); err != nil {
		return err
	}
	if !crd.established() {
		return fmt.Errorf("it is not established: %+v", crd.Status.Conditions)
	}
	for _, version := range crd.Spec.Versions {
		if !version.Served {
			continue
		}
		resource := schema.GroupVersionResource{Group: crd.Spec.Group, Version: version.Name, Resource: crd.Spec.Names.Plural}
		if err := found(finder, resource); err != nil {
			return err
		}
		if _, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
			return err
		}
	}
	return nil
}

// definition is what is read of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group string `json:"group"`
		Names struct {
			Plural string `json:"plural"`
		} `json:"names"`
		Versions []struct {
			Name   string `json:"name"`
			Served bool   `json:"served"`
		} `json:"versions"`
	} `json:"spec"`
	Status struct {
		Conditions []metav1.Condition `json:"conditions"`
	} `json:"status"`
}

func (d *definition) established() bool {
	for _, condition := range d.Status.Conditions {
		if condition.Type == "Established" {
			return condition.Status == metav1.ConditionTrue
		}
	}
	return false
}

// found says whether somebody who asks which resources there are gets to know it.
func found(finder discovery.DiscoveryInterface, resource schema.GroupVersionResource) error {
	list, err := finder.ServerResourcesForGroupVersion(resource.GroupVersion().String())
	if err != nil {
		return err
	}
	for _, r := range list.APIResources {
		if r.Name == resource.Resource {
			return nil
		}
	}
	return fmt.Errorf("%s is not listed in %s", resource.Resource, resource.GroupVersion())
}

// DeleteNamespace deletes a namespace whose objects are deleted or do not matter,
// and does what the controller manager does at the end of it: the namespace is
// gone when it returns. Objects in it stay in the store, unseen.
func (c *Cluster) DeleteNamespace(t testing.TB, name string) {
	t.Helper()
	c.Kubectl(t, "delete", "namespace", name, "--wait=false")
	namespace := unstructured.Unstructured{}
	namespace.SetAPIVersion("v1")
	namespace.SetKind("Namespace")
	namespace.SetName(name)
	text, err := namespace.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.Command("replace", "--raw", "/api/v1/namespaces/"+name+"/finalize", "-f", "-")
	cmd.Stdin = strings.NewReader(string(text))
	if _, err := run(cmd); err != nil {
		t.Fatal(err)
	}
}
