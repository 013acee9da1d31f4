// The whole life of a model and its deployment with Oracle's SDK for JavaScript.
// node life.js CONFIG PROFILE URL COMPARTMENT PROJECT ARTIFACT; prints what came of it as JSON.
const fs = require("fs");
const common = require("oci-common");
const science = require("oci-datascience");
const inference = require("oci-modeldeployment");

const [config, profile, url, compartmentId, projectId, artifact] = process.argv.slice(2);
const told = {};

function client(kind) {
  const provider = new common.ConfigFileAuthenticationDetailsProvider(config, profile);
  const made = new kind({ authenticationDetailsProvider: provider });
  made.endpoint = url;
  return made;
}

// The SDK's own waiters look every 30 seconds.
async function ended(data, workRequestId) {
  for (;;) {
    const { workRequest } = await data.getWorkRequest({ workRequestId });
    if (["SUCCEEDED", "FAILED", "CANCELED"].includes(workRequest.status)) return workRequest;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function main() {
  const data = client(science.DataScienceClient);
  const predictions = client(inference.ModelDeploymentClient);

  const { model } = await data.createModel({
    createModelDetails: { compartmentId, projectId, displayName: "from JavaScript" },
  });
  await data.createModelArtifact({
    modelId: model.id,
    modelArtifact: fs.readFileSync(artifact),
    contentDisposition: 'attachment; filename="artifact.zip"',
  });
  const head = await data.headModelArtifact({ modelId: model.id });
  told.length = head.contentLength;
  const fetched = await data.getModelArtifactContent({ modelId: model.id });
  const parts = [];
  for await (const part of fetched.value) parts.push(Buffer.from(part));
  told.same = Buffer.concat(parts).equals(fs.readFileSync(artifact));
  const { model: renamed } = await data.updateModel({
    modelId: model.id,
    updateModelDetails: { description: "é", freeformTags: { by: "JavaScript" } },
  });
  told.description = renamed.description;

  const { modelDeployment, opcWorkRequestId } = await data.createModelDeployment({
    createModelDeploymentDetails: {
      compartmentId,
      projectId,
      displayName: "from-javascript",
      modelDeploymentConfigurationDetails: {
        deploymentType: "SINGLE_MODEL",
        modelConfigurationDetails: {
          modelId: model.id,
          instanceConfiguration: {
            instanceShapeName: "VM.Standard.E4.Flex",
            modelDeploymentInstanceShapeConfigDetails: { ocpus: 1, memoryInGBs: 16 },
          },
          scalingPolicy: { policyType: "FIXED_SIZE", instanceCount: 1 },
          bandwidthMbps: 10,
        },
      },
    },
  });
  const modelDeploymentId = modelDeployment.id;
  const state = async () =>
    (await data.getModelDeployment({ modelDeploymentId })).modelDeployment.lifecycleState;
  told.created = (await ended(data, opcWorkRequestId)).status;
  told.states = [await state()];
  const log = await data.listWorkRequestLogs({ workRequestId: opcWorkRequestId });
  told.logged = log.items.length > 0;
  told.listed = [];
  for await (const each of data.listAllModelDeployments({ compartmentId })) {
    if (each.id === modelDeploymentId) told.listed.push(each.displayName);
  }
  // Its types say that a body is a string, and a string it encodes once more.
  const ask = async (requestBody) =>
    (await predictions.predict({ modelDeploymentId, requestBody })).value;
  told.predicted = await ask([1, 2]);

  const updated = await data.updateModelDeployment({
    modelDeploymentId,
    updateModelDeploymentDetails: { description: "changed" },
  });
  told.updated = (await ended(data, updated.opcWorkRequestId)).status;
  for (const change of ["deactivateModelDeployment", "activateModelDeployment"]) {
    const { opcWorkRequestId: id } = await data[change]({ modelDeploymentId });
    await ended(data, id);
    told.states.push(await state());
  }
  told.again = await ask([3]);
  try {
    await data.getModel({ modelId: model.id + "x" });
  } catch (error) {
    told.refused = [error.statusCode, error.serviceCode];
  }
  const { opcWorkRequestId: last } = await data.deleteModelDeployment({ modelDeploymentId });
  await ended(data, last);
  told.states.push(await state());
  await data.deleteModel({ modelId: model.id });
  told.model = (await data.getModel({ modelId: model.id })).model.lifecycleState;
  console.log(JSON.stringify(told));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(told, error);
    process.exit(1);
  }
);
